"""What any page of this package must be: a policy under which nothing of others runs, loads or changes how it looks."""

import base64
import hashlib
import html as markup
import re


def check(html: str) -> str:
    """The page's policy. Its styles and scripts are named by their hashes, and no element has a style of its own."""
    policy = markup.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1])
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert "base-uri 'none'" in policy and "form-action 'none'" in policy
    for kind, attributes, content in re.findall(r"<(style|script)([^>]*)>(.*?)</\1>", html, re.S):
        if attributes.startswith((' type="application/json"', ' type="text/plain"')):
            continue
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in re.search(rf"{kind}-src ([^;]*)", policy)[1]
    shown = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", html, flags=re.S)
    assert not re.search(r"<[^>]* (style|on\w+)=", shown)
    return policy
