"""All that knows the classes of the `anthropic` SDK: sources, responses, models, and failures."""
