"""List the files of a server's trusted authorities."""

from __future__ import annotations

BUNDLE = "/etc/bedstone/tls/ca.crt"
# update-ca-certificates reads these, one certificate a file.
ANCHOR = "/usr/local/share/ca-certificates/bedstone-ca-{number}.crt"


def authority_files(certificate: str, also_trusted: list[str]) -> list[dict[str, str]]:
    """Return the files that hold trusted authorities, as entries of converge's `files`.

    Args:
        certificate: the authority that issues, as PEM text.
        also_trusted: further ones.

    """
    texts = [str(pem).strip() + "\n" for pem in (certificate, *also_trusted)]
    anchors = [
        {"path": ANCHOR.format(number=number), "content": text}
        for number, text in enumerate(texts, start=1)
    ]
    return [{"path": BUNDLE, "content": "".join(texts)}, *anchors]
