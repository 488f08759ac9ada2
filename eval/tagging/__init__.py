"""What class probabilities mean for physics: rejections, their law, calibration."""
