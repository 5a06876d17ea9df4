"""How the facts of a recording are written on pages."""

from django import template

register = template.Library()


@register.filter
def clock(seconds: float | None) -> str:
    """12.3 → 12.3 s, 83 → 1:23, 3723 → 1:02:03; empty if unknown."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


KINDS = {
    "svo2": "ZED SVO2",
    "zed": "ZED SVO2 (SDK)",
    "stereo_video": "Stereo video",
    "stereo_images": "Stereo images",
    "video": "Video",
    "images": "Images",
}


@register.filter
def kind_name(kind: str) -> str:
    return KINDS.get(kind, kind)
