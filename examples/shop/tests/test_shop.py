"""A plain unit test: `pytest tests` runs it without any launch plan."""

from shop import Shop


def test_stock_is_counted() -> None:
    shop = Shop({"key": "ada"})
    shop.take("tea", 3)
    assert shop.stock["tea"] == 97
