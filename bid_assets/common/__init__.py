"""What every layer may use: time windows, Arrow columns cut by window, progress of long work, files of their owner
alone, loopback addresses.

Imports nothing of the platform, and no Dagster. What only one package needs belongs in that package.
"""
