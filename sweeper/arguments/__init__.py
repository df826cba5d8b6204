"""What the larger commands take; apart from the commands, so that asking for help loads nothing."""
