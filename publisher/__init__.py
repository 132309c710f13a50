"""The service that owns the one TradingView session and publishes closed bars."""
