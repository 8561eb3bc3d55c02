"""The application's database: the table contract, the reader, the embedded PostgreSQL, the import of files."""
