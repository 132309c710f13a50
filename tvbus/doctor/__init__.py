"""The checks of `tvbus doctor`: what is looked at, apart from what is thought of it.

The `look_…` modules ask, and change nothing, start nothing and sign in nowhere; the
`judge_…` modules are pure and turn what was found into findings.
"""
