"""Ready handlers for `tvbus consume`."""
