"""What a person sees of the log.

Views are made from the log's records and nothing else, so they can be thrown away and made again. Invariant: what comes from
data is put in as text, never as markup, and what a terminal or page would not show, or would obey, is spelt out.
"""
