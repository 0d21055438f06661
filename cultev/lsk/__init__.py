"""Which language a model should think in: the outcome table, cells, policies and routers.

``table`` holds what a model answered in which language, ``splits`` which items may be learned from, ``cells`` groups
items, ``effects`` estimates how much better each language is than English in each cell, ``policies`` and ``gate``
turn that into a router, ``oracle`` bounds what any router can reach, ``evaluate`` compares them on the same items,
and ``halving`` spends fewer tokens on the table. Nothing here needs a model.
"""
