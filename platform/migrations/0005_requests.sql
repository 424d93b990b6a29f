-- What an answer's headers said, of those that are kept. JSON: [["name", "value"], …]; null: none.
ALTER TABLE attempts ADD COLUMN response_headers TEXT;
