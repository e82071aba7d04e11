"""A model on another server that speaks OpenAI's API, as a member of the group."""
