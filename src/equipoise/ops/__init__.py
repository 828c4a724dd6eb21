"""The computation of the losses, one file per shape family: plain, stable torch on scores and targets of one dtype."""
