"""Exit status 0 when the server of this container answers /healthz. Nothing but Python's own library."""

import os
import ssl
import sys
import urllib.request


def main() -> int:
    """Asks the server on loopback, over TLS where it has a certificate; whose it is does not matter here."""
    port = os.environ.get("DAYSPRING_PORT", "8420")
    root = os.environ.get("DAYSPRING_ROOT_PATH", "")
    scheme, context = "http", None
    if os.environ.get("DAYSPRING_TLS_CERT"):
        scheme, context = "https", ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{scheme}://127.0.0.1:{port}{root}/healthz", timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
