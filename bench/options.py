"""Kinds of values on the command line of bench/run."""

import argparse


def a_list(allowed):
    """Of the given words, with commas."""
    def parse(text):
        items = text.split(",")
        for item in items:
            if item not in allowed:
                raise argparse.ArgumentTypeError(
                    f"{item} is none of {', '.join(allowed)}")
        return items
    return parse


def positive(kind):
    def parse(text):
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value
    return parse
