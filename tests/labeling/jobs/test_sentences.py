from labeling.jobs.templatetags.sentences import code_words


def test_words_in_backticks_become_code_and_nothing_becomes_markup():
    sentence = code_words("Run `models get <name>` & wait; a lone ` stays. <b>")
    assert sentence == "Run <code>models get &lt;name&gt;</code> &amp; wait; a lone ` stays. &lt;b&gt;"
