"""Where messages and users are kept: an interface, and its embedded and distributed forms."""
