"""How an image is cut for the device, and put together again."""
