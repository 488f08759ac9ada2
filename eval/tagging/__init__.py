"""Physics of class probabilities: background rejections, their dependence on the loss, calibration."""
