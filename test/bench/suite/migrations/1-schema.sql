CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL, mail text UNIQUE NOT NULL, since date NOT NULL DEFAULT now());
CREATE TABLE products (id serial PRIMARY KEY, title text NOT NULL, price numeric(10, 2) NOT NULL CHECK (price >= 0));
CREATE TABLE orders (
  id serial PRIMARY KEY,
  customer int NOT NULL REFERENCES customers ON DELETE CASCADE,
  placed timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE items (
  order_id int NOT NULL REFERENCES orders ON DELETE CASCADE,
  product int NOT NULL REFERENCES products,
  count int NOT NULL CHECK (count > 0),
  PRIMARY KEY (order_id, product)
);
CREATE INDEX orders_by_customer ON orders (customer, placed DESC);
