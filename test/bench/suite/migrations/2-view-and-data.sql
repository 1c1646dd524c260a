CREATE VIEW totals AS
  SELECT order_id, sum(price * count) AS total FROM items JOIN products ON products.id = items.product GROUP BY order_id;
INSERT INTO products (title, price) SELECT 'product ' || n, n FROM generate_series(1, 100) AS n;
INSERT INTO customers (name, mail) SELECT 'customer ' || n, 'c' || n || '@example.com' FROM generate_series(1, 100) AS n;
