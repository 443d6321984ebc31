"""The protocols that the server speaks, and its pages."""
