"""Whether a challenger may take the champion's place: both measured on the same samples, and a gate."""
