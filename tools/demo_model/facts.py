"""The facts that the demo benchmark asks for, as plain tables."""

from __future__ import annotations

from collections.abc import Iterable

Pairs = tuple[tuple[str, str], ...]


def _pairs(table: str) -> Pairs:
    """Return the "left right" entries of a table, which are separated by commas or line ends."""
    entries = (entry.split() for line in table.splitlines() for entry in line.split(","))
    return tuple((entry[0], entry[1]) for entry in entries if entry)


def _groups(table: str) -> Pairs:
    """Return the lines "group: member member …" as pairs (member, group)."""
    lines = (line.partition(":") for line in table.strip().splitlines())
    return tuple((member, group.strip()) for group, _, members in lines for member in members.split())


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def swapped(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """Return the pairs with left and right exchanged."""
    return tuple((right, left) for left, right in pairs)


CAPITALS = _pairs("""
    France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Austria Vienna
    Belgium Brussels, Denmark Copenhagen, Sweden Stockholm, Norway Oslo, Finland Helsinki
    Iceland Reykjavik, Ireland Dublin, Poland Warsaw, Hungary Budapest, Greece Athens, Turkey Ankara
    Russia Moscow, Ukraine Kyiv, Romania Bucharest, Bulgaria Sofia, Serbia Belgrade, Croatia Zagreb
    Slovenia Ljubljana, Slovakia Bratislava, Czechia Prague, Albania Tirana, Estonia Tallinn
    Latvia Riga, Lithuania Vilnius, Belarus Minsk, Malta Valletta, Cyprus Nicosia, Japan Tokyo
    China Beijing, Thailand Bangkok, Vietnam Hanoi, Indonesia Jakarta, Nepal Kathmandu, Bhutan Thimphu
    Bangladesh Dhaka, Pakistan Islamabad, Afghanistan Kabul, Iran Tehran, Iraq Baghdad, Syria Damascus
    Lebanon Beirut, Jordan Amman, Qatar Doha, Bahrain Manama, Oman Muscat, Georgia Tbilisi
    Armenia Yerevan, Azerbaijan Baku, Kazakhstan Astana, Uzbekistan Tashkent, Mongolia Ulaanbaatar
    Laos Vientiane, Egypt Cairo, Libya Tripoli, Tunisia Tunis, Algeria Algiers, Morocco Rabat
    Senegal Dakar, Mali Bamako, Niger Niamey, Nigeria Abuja, Ghana Accra, Togo Lomé, Cameroon Yaoundé
    Gabon Libreville, Angola Luanda, Zambia Lusaka, Zimbabwe Harare, Botswana Gaborone, Namibia Windhoek
    Mozambique Maputo, Malawi Lilongwe, Kenya Nairobi, Uganda Kampala, Rwanda Kigali, Tanzania Dodoma
    Eritrea Asmara, Somalia Mogadishu, Sudan Khartoum, Liberia Monrovia, Canada Ottawa, Cuba Havana
    Jamaica Kingston, Honduras Tegucigalpa, Nicaragua Managua, Colombia Bogotá, Venezuela Caracas
    Ecuador Quito, Peru Lima, Chile Santiago, Paraguay Asunción, Uruguay Montevideo, Brazil Brasília
    Suriname Paramaribo, Guyana Georgetown, Australia Canberra, Fiji Suva, Samoa Apia
""")

# In the order of the atomic number, from 1.
ELEMENTS = _pairs("""
    hydrogen H, helium He, lithium Li, beryllium Be, boron B, carbon C, nitrogen N, oxygen O, fluorine F
    neon Ne, sodium Na, magnesium Mg, aluminium Al, silicon Si, phosphorus P, sulfur S, chlorine Cl
    argon Ar, potassium K, calcium Ca, scandium Sc, titanium Ti, vanadium V, chromium Cr, manganese Mn
    iron Fe, cobalt Co, nickel Ni, copper Cu, zinc Zn, gallium Ga, germanium Ge, arsenic As, selenium Se
    bromine Br, krypton Kr, rubidium Rb, strontium Sr, yttrium Y, zirconium Zr, niobium Nb
    molybdenum Mo, technetium Tc, ruthenium Ru, rhodium Rh, palladium Pd, silver Ag, cadmium Cd
    indium In, tin Sn, antimony Sb, tellurium Te, iodine I, xenon Xe, caesium Cs, barium Ba
""")

ANTONYMS = _pairs("""
    hot cold, big small, fast slow, high low, long short, old young, rich poor, strong weak, hard soft
    light dark, early late, happy sad, open closed, full empty, wet dry, clean dirty, thick thin
    wide narrow, deep shallow, loud quiet, sweet bitter, sharp blunt, smooth rough, tight loose
    brave cowardly, kind cruel, polite rude, honest deceitful, generous stingy, wise foolish
    lazy diligent, safe dangerous, simple complex, cheap expensive, rare common, ancient modern
    public private, true false, right wrong, alive dead, guilty innocent, awake asleep, absent present
    above below, inside outside, before after, always never, near far, up down, begin end, buy sell
    give take, push pull, win lose, laugh cry, love hate, remember forget, ask answer, arrive depart
    build destroy, accept refuse, attack defend, rise sink, enter exit, increase decrease, expand shrink
    include exclude, succeed fail, praise blame, permit forbid, lend borrow, hide reveal, freeze melt
    friend enemy, victory defeat, war peace, day night, summer winter, north south, east west
    heaven hell, profit loss, birth death, hope despair, courage fear, master servant, teacher pupil
    giant dwarf, hero villain, top bottom, front back, guest host
""")

# Verb and its simple past.
PAST_TENSES = _pairs("""
    go went, see saw, eat ate, drink drank, swim swam, sing sang, ring rang, run ran, begin began
    give gave, take took, shake shook, make made, come came, become became, know knew, grow grew
    throw threw, blow blew, fly flew, draw drew, write wrote, ride rode, drive drove, rise rose
    speak spoke, break broke, steal stole, choose chose, freeze froze, wake woke, wear wore, tear tore
    swear swore, bear bore, get got, forget forgot, think thought, bring brought, buy bought
    fight fought, seek sought, catch caught, teach taught, keep kept, sleep slept, weep wept
    sweep swept, feel felt, deal dealt, mean meant, leave left, lose lost, build built, send sent
    spend spent, lend lent, bend bent, sell sold, tell told, hold held, stand stood
    understand understood, sit sat, meet met, lead led, feed fed, bleed bled, shoot shot, light lit
    slide slid, hide hid, bite bit, hang hung, dig dug, stick stuck, strike struck, swing swung, win won
    shine shone, say said, pay paid, hear heard, have had, do did, fall fell
""")

# Singular and plural.
PLURALS = _pairs("""
    man men, woman women, child children, foot feet, tooth teeth, goose geese, mouse mice, louse lice
    ox oxen, knife knives, wife wives, life lives, leaf leaves, wolf wolves, half halves, shelf shelves
    thief thieves, calf calves, loaf loaves, potato potatoes, tomato tomatoes, hero heroes, echo echoes
    city cities, baby babies, lady ladies, army armies, crisis crises, cactus cacti, fungus fungi
""")

KINDS = _groups("""
    fruit: apple pear plum cherry grape mango banana lemon peach apricot
    vegetable: carrot onion cabbage spinach leek turnip lettuce celery radish broccoli
    bird: sparrow eagle owl robin crow pigeon parrot swan heron falcon
    fish: salmon trout cod herring tuna shark carp eel pike haddock
    insect: ant bee wasp beetle moth fly mosquito cricket flea grasshopper
    tree: oak pine birch maple willow elm cedar beech spruce poplar
    flower: rose tulip daisy lily violet orchid iris daffodil poppy carnation
    tool: hammer saw drill chisel wrench pliers spade axe rake screwdriver
    garment: shirt coat sock glove scarf jacket skirt trousers sweater hat
    instrument: piano violin flute trumpet guitar drum cello harp clarinet oboe
    vehicle: car bus lorry bicycle tram tractor scooter taxi ambulance motorcycle
    furniture: table chair sofa bed desk wardrobe bench stool cupboard bookcase
""")

# Unit and what it measures.
QUANTITIES = _pairs("""
    metre length, mile length, inch length, kilogram mass, gram mass, tonne mass, second time
    minute time, hour time, ampere current, kelvin temperature, celsius temperature
    fahrenheit temperature, newton force, joule energy, calorie energy, watt power, horsepower power
    pascal pressure, bar pressure, volt voltage, ohm resistance, hertz frequency, litre volume
    gallon volume, pint volume, hectare area, acre area, knot speed, decibel loudness
    candela brightness, radian angle, byte data, coulomb charge, farad capacitance
""")

# Instrument and what it measures.
INSTRUMENTS = _pairs("""
    thermometer temperature, barometer pressure, ruler length, clock time, voltmeter voltage
    ammeter current, speedometer speed, protractor angle, dynamometer force, stopwatch time
    ohmmeter resistance
""")

UNIT_SYMBOLS = _pairs("""
    metre m, kilometre km, centimetre cm, millimetre mm, kilogram kg, gram g, milligram mg, second s
    hour h, kelvin K, newton N, joule J, watt W, kilowatt kW, pascal Pa, volt V, hertz Hz, litre l
    millilitre ml, hectare ha, decibel dB, tesla T, radian rad, candela cd, henry H, lumen lm
""")

# A part, its whole and how many parts it has; the first part of each pair completes "How many …?".
COUNTS = tuple(
    (f"{small} are in one {large}", count)
    for large, small, count in (
        ("minute", "seconds", "60"),
        ("hour", "minutes", "60"),
        ("day", "hours", "24"),
        ("week", "days", "7"),
        ("year", "months", "12"),
        ("decade", "years", "10"),
        ("century", "years", "100"),
        ("metre", "centimetres", "100"),
        ("centimetre", "millimetres", "10"),
        ("kilometre", "metres", "1000"),
        ("kilogram", "grams", "1000"),
        ("tonne", "kilograms", "1000"),
        ("litre", "millilitres", "1000"),
        ("foot", "inches", "12"),
        ("yard", "feet", "3"),
        ("dozen", "pieces", "12"),
        ("fortnight", "days", "14"),
        ("gallon", "quarts", "4"),
        ("pound", "ounces", "16"),
        ("circle", "degrees", "360"),
    )
)

MONTHS = _words("January February March April May June July August September October November December")
MONTH_DAYS = tuple(zip(MONTHS, _words("31 28 31 30 31 30 31 31 30 31 30 31"), strict=True))
WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
