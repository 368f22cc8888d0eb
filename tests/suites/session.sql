-- SPDX-License-Identifier: MIT
-- For sqlite3: everything that it prints follows from what is written here.
PRAGMA journal_mode = WAL;
PRAGMA cache_size = -64000;
PRAGMA temp_store = MEMORY;
CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT UNIQUE, country TEXT);
CREATE TABLE item (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES owner, name TEXT, price REAL, tags TEXT, body BLOB);
BEGIN;
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO owner SELECT i, 'owner ' || i, substr('ATBECHDEESFR', 1 + 2 * (i * 7 % 6), 2) FROM n;
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
INSERT INTO item SELECT i, 1 + i * 7919 % 20000, hex(i * 2654435761 % 4294967296), (i * 31 % 9973) / 100.0,
    json_array(i % 13, 'tag' || i % 101, printf('%08d', i)), zeroblob(i % 200) FROM n;
COMMIT;
CREATE INDEX item_owner ON item (owner, price);
CREATE INDEX item_name ON item (name COLLATE NOCASE);
CREATE INDEX item_tag ON item (json_extract(tags, '$[1]'));
ANALYZE;
SELECT country, count(*), round(sum(price), 2), min(item.name), max(length(body))
    FROM item JOIN owner ON owner.id = item.owner GROUP BY country ORDER BY country;
SELECT json_extract(tags, '$[1]') AS tag, count(DISTINCT owner), group_concat(DISTINCT tags ->> 0)
    FROM item GROUP BY tag ORDER BY tag LIMIT 40;
SELECT name, price, rank() OVER (PARTITION BY owner % 50 ORDER BY price DESC, id) AS place,
    sum(price) OVER (ORDER BY id ROWS 100 PRECEDING) FROM item ORDER BY place, id LIMIT 2000;
SELECT a.id, b.id FROM item a JOIN item b ON b.owner = a.owner AND b.price > a.price + 99 ORDER BY a.id, b.id LIMIT 500;
SELECT count(*), sum(length(text)) FROM (SELECT json_group_array(json_object('name', name, 'price', price)) AS text
    FROM item GROUP BY owner % 1000);
UPDATE item SET tags = json_set(tags, '$[3]', upper(name)), price = price * 1.1 WHERE id % 3 = 0;
SAVEPOINT before;
DELETE FROM item WHERE id % 5 = 0;
ROLLBACK TO before;
DELETE FROM item WHERE owner % 2 = 1;
RELEASE before;
SELECT count(*), round(sum(price), 2), total(length(tags)) FROM item;
EXPLAIN QUERY PLAN SELECT * FROM item JOIN owner ON owner.id = item.owner WHERE item.price > 5 AND country = 'FR';
VACUUM;
PRAGMA wal_checkpoint(TRUNCATE);
PRAGMA integrity_check;
SELECT like('%' || name || '%', 'owner 17') AS same, count(*) FROM owner GROUP BY same;
