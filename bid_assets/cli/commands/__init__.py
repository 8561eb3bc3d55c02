"""The commands of `bid-assets`, one module per group: names, options and help. What a command does is in the module of `cli/`
that it imports when it is invoked, so that help and usage errors come at once.
"""
