"""Sentences of the engine on a page."""

import re

from django import template
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.filter
def code_words(sentence: str) -> SafeString:
    """What stands between `backticks` as code; all else escaped."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", conditional_escape(sentence))
    return mark_safe(text)  # noqa: S308 - escaped above
