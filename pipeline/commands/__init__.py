"""The commands of ``signs``, grouped as its help groups them."""
