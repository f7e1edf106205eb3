"""What a sweep found, for people and for programs: everything here only reads the folders."""
