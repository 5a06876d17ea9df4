"""A small moving 3D scene with known ground truth, written as a stereo recording: the demo and the engine's yardstick."""
