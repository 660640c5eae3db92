"""What runs a classroom: it imports the core, never the other way."""
