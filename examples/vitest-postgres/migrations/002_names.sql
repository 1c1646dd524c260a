ALTER TABLE users ADD COLUMN name text NOT NULL DEFAULT 'nobody';
INSERT INTO users (email, name) VALUES ('ada@example.com', 'Ada');
