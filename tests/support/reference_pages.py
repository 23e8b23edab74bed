"""Writes all that is generated in the reference anew: ``python tests/support/reference_pages.py``."""

import api_pages
import options_page
import schema_page
import settings_page
import verdict_page

PARTS = (settings_page.PART, verdict_page.PART, options_page.PART, schema_page.PART, *api_pages.PARTS)

if __name__ == "__main__":
    for part in PARTS:
        part.write()
