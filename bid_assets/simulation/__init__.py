"""A simulated freelance market with a known truth, for demos and tests. Nothing in the platform reads from it.

`simulate.simulate` makes a market, `write.write` puts it into the application's database and the truth beside it,
`truth` reads the truth back. A market is made week by week (`weeks.market_weeks`), and can go on for ever (`live`).
"""
