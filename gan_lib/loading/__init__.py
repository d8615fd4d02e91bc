"""Dataset -> batches: which rows, in what order, decoded ahead of their use, on the device. One loader a rank."""
