"""From what people said of answers to a better model, in one command: collect, curate, tune, evaluate, publish."""
