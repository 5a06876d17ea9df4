"""SAM 2 and 2.1 (Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024): masks from points and boxes.
EdgeTAM is a light variant of it.

`segmenter` is the backend. Beneath it lies one small protocol, `network`, with two implementations: the model of
transformers (`transformers_network`), and Meta's own package (`meta_network`). Nothing is imported here: the backend is
loaded on first use.
"""
