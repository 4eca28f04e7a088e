"""Training: the training set, the objective, rollouts and the trainer."""
