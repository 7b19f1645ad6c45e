"""JSON Schema to GBNF, the grammar that llama.cpp holds a model to.

The pieces, in the order a schema meets them:

    schema     the document, its pointers and references, its keywords read with their types
    expand     combinators followed and multiplied out into conjunctions (negate: when a schema does not hold)
    shape      what a conjunction says of each JSON type
    objects, arrays, strings, numbers, values    a shape as expressions
    language, patterns, formats, automata        regular languages, exactly, for strings and digits
    judge      what is provable of schemas: membership, few values, exclusion
    expr, gbnf expressions, and their printed form

What holds: every text a grammar accepts is valid against its schema, or the schema was refused.
What it does not do: accept every valid text. Keys come in the order written, blanks are bounded, formats are subsets.
"""

from dayspring.engines.llamacpp.grammar.compiler import compile_schema

__all__ = ["compile_schema"]
