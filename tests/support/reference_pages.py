"""Writes all of the documents that is made from the code: ``make pages``."""

import api_pages
import json_schemas
import man_page
import options_page
import schema_page
import settings_page
import verdict_page

PARTS = (settings_page.PART, verdict_page.PART, options_page.PART, schema_page.PART, *api_pages.PARTS)

if __name__ == "__main__":
    for part in PARTS:
        part.write()
    man_page.write()
    json_schemas.write()
