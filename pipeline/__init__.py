"""The engine: recordings in, arrays and files out. It has never heard of Django.

Conventions everywhere: the rectified left camera is the frame of reference (x right, y down, z forward, metres);
images are uint8 BGR (H, W, 3) as OpenCV has them; depth is float32 metres (H, W) with NaN where unknown.
"""
