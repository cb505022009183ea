"""Parts of other projects, for recipes."""
