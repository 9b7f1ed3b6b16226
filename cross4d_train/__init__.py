"""Stage two: train and evaluate point-cloud encoders from the stores of stage one."""
