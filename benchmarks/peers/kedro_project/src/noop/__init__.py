"""Five nodes that do nothing, as a Kedro project."""
