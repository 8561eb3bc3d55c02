"""The import of CSV and Parquet files into the application's tables: wholly or not at all."""
