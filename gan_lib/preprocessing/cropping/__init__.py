"""What is cut from an image or a label map: sizes, boxes, and the filters that drop patches."""
