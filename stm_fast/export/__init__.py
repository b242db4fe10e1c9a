"""Masks in other people's formats: annotation tools, datasets and editors.

`stm_fast.export.api.export_result` writes the results of `stm-fast segment` in one of the formats of
`stm_fast.export.formats.FORMATS`. See docs/export.md.
"""
