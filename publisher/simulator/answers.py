"""What the simulated TradingView's pages say, in the words and shapes that were recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import orjson

from publisher.simulator.accounts import CODE_LIFE_S, Account, Outcome

_REFUSALS: Final = MappingProxyType(
    {
        Outcome.WRONG_PASSWORD: (
            200,
            {"error": "Invalid username or password", "code": "invalid_credentials"},
        ),
        Outcome.CAPTCHA: (
            200,
            {
                "error": "Please confirm that you are not a robot by clicking the captcha box.",
                "code": "recaptcha_required",
            },
        ),
        # Only the codes of the next two are known, and the beginning of the first text.
        Outcome.RATE_LIMIT: (
            200,
            {
                "error": "You have been locked out. Please try again later.",
                "code": "rate_limit",
            },
        ),
        Outcome.CODE_NOT_SENT: (
            200,
            {
                "error": "2FA_challenge_not_generated",
                "code": "2FA_challenge_not_generated",
                "message": "The verification code could not be sent",
            },
        ),
        Outcome.WRONG_CODE: (
            400,
            {
                "detail": "Incorrect verification code. Please check the entered code to make "
                "sure it is correct.",
                "code": "2FA_invalid_credential",
            },
        ),
        Outcome.NO_FIRST_STEP: (
            403,
            {
                "detail": "Authentication credentials were not provided.",
                "code": "not_authenticated",
            },
        ),
    }
)


def refusal(outcome: Outcome) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the body of a step that did not succeed."""
    status, body = _REFUSALS[outcome]
    return status, dict(body)


def factor_needed(account: Account) -> dict[str, Any]:
    """Return the body that asks for a second factor."""
    return {
        "error": "2FA_required",
        "code": "2FA_required",
        "message": "Second authentication factor is needed",
        "two_factor_types": [
            {"name": way} if way == "totp" else {"name": way, "code_ttl": CODE_LIFE_S}
            for way in account.ways
        ],
    }


def signed_in(account: Account, user_id: int, token: str) -> dict[str, Any]:
    """Return the body of a successful sign-in; `error` is there too, and empty."""
    return {"error": "", "user": user(account, user_id, token)}


def user(account: Account, user_id: int, token: str) -> dict[str, Any]:
    """Return what TradingView tells an account about itself."""
    person = {
        "id": user_id,
        "username": account.username,
        "first_name": "",
        "last_name": "",
        "has_active_email": bool(account.email),
        "date_joined": datetime(2020, 1, 1, tzinfo=UTC).isoformat(),
        "userpic": "",
        "userpic_mid": "",
        "userpic_big": "",
        "status": "",
        "private_channel": f"private_{user_id:032x}",
        "session_hash": f"{user_id:064x}",
        "settings": {},
        "last_locale": account.locale or "en",
        "auth_token": token,
        "picture_url": "",
    }
    return person | _community() | _rights(account) | _plan(account)


def page(language: str, person: dict[str, Any] | None) -> bytes:
    """Return the home page; it names a user and a token where somebody is signed in."""
    script = b"var user = " + orjson.dumps(person or {"username": "Guest"})
    # A closing tag inside a string would end the script.
    script = script.replace(b"</", b"<\\/")
    return (
        f'<!DOCTYPE html>\n<html lang="{language}"><head><title>Simulated TradingView</title>'
        "</head><body>\n<script>".encode()
        + script
        + b";</script>\n</body></html>\n"
    )


def plain_page(title: str) -> bytes:
    """Return a page that says one thing."""
    return f"<!DOCTYPE html>\n<html><body><h1>{title}</h1></body></html>\n".encode()


def _community() -> dict[str, Any]:
    return {
        "notification_popup": True,
        "notification_sound": True,
        "notification_count": {"following": 0, "user": 0},
        "following": 0,
        "followers": 0,
        "reputation": 0.0,
        "max_user_language_reputation": 0.0,
        "has_twitter": False,
        "has_youtube": False,
        "has_twitch": False,
        "profile_data_filled": True,
        "active_broker": None,
        "ignore_list": [],
        "social_registration": False,
    }


def _rights(account: Account) -> dict[str, Any]:
    return {
        "is_partner": False,
        "is_broker": False,
        "broker_plan": None,
        "permissions": {},
        "is_staff": False,
        "is_superuser": False,
        "is_moderator": False,
        "has_phone": "sms" in account.ways,
        "sms_email": None,
        "is_policy_accepted": True,
        "is_non_pro_confirmed": False,
        "do_not_track": False,
        "is_expert": False,
        "disallow_adding_to_private_chats": False,
    }


def _plan(account: Account) -> dict[str, Any]:
    plan = account.plan
    trial = plan.endswith("_trial")
    name = plan.removeprefix("pro_").replace("_", " ").title()
    return {
        "badges": [{"name": f"pro:{plan}", "verbose_name": name}] if plan else [],
        "is_pro": bool(plan),
        "is_trial": trial,
        "pro_being_cancelled": None,
        "pro_plan_days_left": 0,
        "pro_plan_original_name": False,
        "pro_plan": plan,
        "pro_plan_billing_cycle": False,
        "trial_days_left": 10 if trial else 0,
        "trial_days_left_text": "Trial ends in 10 days" if trial else "",
        "new_pro_product_line": None,
        "available_offers": {
            "mobile_upsell": {"available_for_anons": False, "expire_on": 1687325307.721}
        },
        "had_pro": bool(plan),
    }
