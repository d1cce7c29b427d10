"""Endpoints: variants as processes that serve their model archives, and the calls on them."""
