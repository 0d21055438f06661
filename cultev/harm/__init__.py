"""The cultural harm test: what a model answers to questions that presuppose something about a culture's people.

``protocol`` says how they are asked, ``plan`` lays the conversations out, ``engine`` holds them and keeps every reply
(``journal``), ``replies`` reads them back, ``outcomes`` tells by rules what needs no judge, ``judges`` and people say
what does, ``summary`` counts. Nothing here loads a model.
"""
