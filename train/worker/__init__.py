"""A worker of a training run: ``train.worker.loop.train_loop`` is what Ray Train starts."""
