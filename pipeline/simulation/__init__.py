"""A small moving 3D scene with known ground truth, written as a stereo recording: demo and yardstick of the engine."""
