"""Word lists for the questions from outside of the world, by language and kind of slot."""

from collections.abc import Mapping

from qwen3lab.tiny.world.settings import Language


def _entries(text: str) -> tuple[str, ...]:
    """The different entries of a list, separated by commas or, if it has any, by bars."""
    joined = " ".join(text.split()).replace("，", ",")
    entries = (entry.strip() for entry in joined.split("|" if "|" in joined else ","))
    return tuple(dict.fromkeys(entry for entry in entries if entry))


_ENGLISH = {
    "country": """France, Spain, Italy, Germany, Poland, Sweden, Norway, Finland, Denmark,
        Greece, Turkey, Egypt, Kenya, Nigeria, Ghana, Morocco, Brazil, Chile, Peru, Argentina,
        Colombia, Mexico, Canada, the United States, Cuba, Japan, China, Korea, India, Nepal,
        Thailand, Vietnam, Indonesia, Malaysia, Australia, New Zealand, Russia, Ukraine,
        Portugal, Ireland, Scotland, England, Austria, Hungary, Romania, Iceland, Iran, Iraq,
        Israel, Pakistan, South Africa, Ethiopia, the Netherlands, Belgium, Switzerland, Croatia,
        Estonia""",
    "city": """Paris, London, Berlin, Madrid, Rome, Vienna, Lisbon, Athens, Warsaw, Prague, Oslo,
        Stockholm, Helsinki, Moscow, Cairo, Lagos, Nairobi, Cape Town, Istanbul, Dubai, Mumbai,
        Delhi, Bangkok, Hanoi, Singapore, Tokyo, Osaka, Seoul, Beijing, Shanghai, Hong Kong,
        Sydney, Melbourne, Toronto, Montreal, New York, Boston, Chicago, San Francisco, Los
        Angeles, Mexico City, Lima, Bogota, Rio, Buenos Aires, Zurich, Munich, Hamburg, Milan,
        Naples""",
    "person": """Einstein, Newton, Darwin, Marie Curie, Shakespeare, Mozart, Bach, Beethoven,
        Picasso, Napoleon, Caesar, Cleopatra, Gandhi, Lincoln, Obama, Plato, Aristotle, Socrates,
        Confucius, Kant, Hegel, Marx, Freud, Turing, Ada Lovelace, Galileo, Kepler, Tesla,
        Edison, Leonardo da Vinci, Goethe, Tolstoy, Dickens, Jane Austen, Hemingway, Taylor
        Swift, Messi, Columbus, Marco Polo, Genghis Khan, Joan of Arc, Queen Victoria, Mandela,
        Churchill, Bob Dylan, Elvis, Chaplin, Alan Kay, Grace Hopper, Gauss, Euler, Ramanujan""",
    "name": """Alice, Peter, Maria, John, Anna, Paul, Sara, David, Laura, Tim, Emma, Lucas, Nora,
        Felix, Hannah, Jonas, Mia, Oscar, Sofia, Hugo, Clara, Ali, Fatima, Omar, Priya, Ravi,
        Yuki, Kenji, Wei, Ling, Carlos, Ines, Pedro, Olga, Ivan, Zara, Bruno, Vera, George,
        Helen, Ann, Ben, Eva, Max, Tom, Zoe, Ida, Leo, Mark, Susan, Linda, Kevin, Rosa, Erik,
        Lena""",
    "thing": """computer, phone, car, train, bicycle, airplane, rocket, clock, camera, robot,
        fridge, guitar, piano, violin, television, engine, battery, laser, magnet, rainbow,
        volcano, mountain, ocean, desert, island, cloud, storm, tornado, earthquake, planet,
        comet, black hole, galaxy, atom, molecule, cell, virus, vaccine, brain, heart, eye, bone,
        diamond, glass, plastic, paper, money, bank, tax, law, war, peace, government, election,
        university, museum, hospital, newspaper, movie, novel, poem, song, painting, game,
        puzzle, email, website, password, database, compiler, neural network, internet, pizza
        oven, umbrella, shoe, jacket, key, ball, lamp, hat, pen, box, book""",
    "animal": """elephant, lion, tiger, giraffe, whale, shark, dolphin, penguin, eagle, owl,
        snake, frog, spider, bee, ant, wolf, fox, bear, monkey, kangaroo, camel, goat, sheep,
        pig, cow, chicken, mouse, hamster, turtle, crocodile, octopus, butterfly, zebra, panda,
        cat, dog, horse, rabbit, duck, bird""",
    "food": """pizza, pasta, rice, soup, salad, bread, cheese, butter, chocolate, ice cream,
        cake, pancakes, sushi, curry, dumplings, noodles, tofu, coffee, tea, milk, wine, beer,
        honey, apples, bananas, oranges, potatoes, tomatoes, onions, garlic, eggs, chicken soup,
        fish, carrots, meat""",
    "subject": """physics, chemistry, biology, history, geography, philosophy, psychology,
        economics, politics, law, medicine, art, music, literature, poetry, religion, sports,
        football, chess, cooking, gardening, photography, astronomy, geology, linguistics,
        grammar, statistics, algebra, geometry, calculus, topology, probability, logic, machine
        learning, deep learning, programming, databases, networks, evolution, climate change,
        gravity, quantum mechanics, relativity, democracy, capitalism, happiness, love, death,
        time, space, consciousness, dreams, friendship, justice, money, language, education,
        interpretability, attention""",
    "tongue": """French, German, Spanish, Italian, Portuguese, Russian, Polish, Dutch, Swedish,
        Greek, Turkish, Arabic, Hebrew, Hindi, Japanese, Korean, Chinese, Latin, Swahili,
        Finnish""",
    "feeling": """happy, sad, angry, tired, bored, hungry, thirsty, lonely, scared, excited,
        nervous, proud, sick, sleepy, lost, confused, worried, in love, fine, great, jealous""",
    "job": """doctor, teacher, lawyer, nurse, pilot, farmer, cook, painter, singer, actor,
        writer, scientist, engineer, soldier, judge, baker, president, king, queen, mayor,
        student""",
    "activity": """swim, dance, sing, cook, drive, read, write, sleep, travel, study, code, draw,
        paint, run, fly, play chess, play the piano, ride a bike, make bread, grow tomatoes,
        learn French, save money, lose weight, fix a car, build a house, tie a tie,
        train a model""",
    "year": """1492, 1776, 1789, 1815, 1848, 1900, 1914, 1918, 1929, 1945, 1968, 1989, 1999,
        2001, 2008, 2016, 2020, 2024, 2050""",
    "month": """January, February, March, April, May, June, July, August, September, October,
        November, December""",
    "unit": "km, miles, kg, pounds, meters, inches, liters, hours, minutes, seconds, euros",
    "colour": "red, blue, green, black, white, yellow, pink, purple, orange, brown, grey",
    "place": """garden, river, forest, hill, market, school, bridge, barn, beach, station,
        airport, library, kitchen, office, park, church, zoo""",
    "code": """import os | import numpy as np | x = [1, 2, 3] | while True: pass | return None |
        for i in range(10): | SELECT * FROM users | console.log("hi") | print("hello") | git push
        | ls -la | sudo apt update | <html></html> | if x > 3: y = 1 | def main(): | lambda x: x
        | class A: pass | cd .. | int main() {} | a[0] = b[1] | import torch | model.train() |
        print(x) | x += 1 | {"a": 1} | [] == [] | npm install | True and False | a = b | y = x **
        2 | print(1 / 0) | raise ValueError | d = {} | s = "abc" | s.upper() | print(len(s)) |
        del x | assert x | x, y = y, x | 1 == 1 | not True | return x + y | a = b + c | f(g(x)) |
        try: | except KeyError: | async def f(): | let x = 5; | var y; | printf("%d", x); |
        #include <stdio.h> | public static void main | echo $HOME | mkdir x | pip install torch
        | python main.py | print(a, b) | for x in y: print(x)""",
    "foreign": """Bonjour, Hola, Guten Tag, Ciao, Hej, Olá, Salut, Buenos días, Guten Morgen,
        Merhaba, Konnichiwa, Namaste, Привет, Здравствуйте, こんにちは, ありがとう, 안녕하세요,
        مرحبا, שלום,
        Danke, Merci beaucoup, Gracias, Grazie, Obrigado, Wie geht es dir?, ¿Cómo estás?, Ça va?,
        Γειά σου, Dzień dobry, नमस्ते""",
    "noise": """qwerty, asdfgh, zxcvbn, aaaa, hjkl, lorem ipsum, foo bar, blah blah, xyz, hmm,
        ???, !!!, ..., :-), <3, ^_^, @, #, $$$, %%%, &, ~, /, //, --, ***, ()()(), [], {}, abc,
        ABC, test 1 2 3, testing, ping, help, exit, quit, stop, start, reset, menu, ok, okay,
        lol, haha, wow, cool, oops, ouch, yo, hey hey, la la la, tic tac, bla""",
}

_CHINESE = {
    "country": """法国，德国，英国，美国，日本，韩国，俄罗斯，意大利，西班牙，加拿大，巴西，印度，
        埃及，泰国，越南，澳大利亚，墨西哥，希腊，瑞典，挪威，芬兰，荷兰，瑞士，波兰，土耳其，
        中国，南非，阿根廷，葡萄牙，新西兰""",
    "city": """北京，上海，广州，深圳，成都，重庆，西安，南京，杭州，武汉，天津，香港，台北，
        东京，首尔，巴黎，伦敦，纽约，柏林，罗马，莫斯科，悉尼，曼谷，新加坡，开罗""",
    "person": """孔子，老子，李白，杜甫，鲁迅，秦始皇，武则天，爱因斯坦，牛顿，达尔文，莎士比亚，
        贝多芬，拿破仑，图灵，高斯，欧拉，姚明，成龙，莫言，苏格拉底，柏拉图，林肯，甘地，
        哥伦布""",
    "name": """小王，小李，小张，老陈，王芳，李娜，张伟，刘洋，陈静，赵敏，小明，小红，小刚，
        小丽，小华，小美，阿强，阿珍，妈妈，爸爸，老师，弟弟，妹妹""",
    "thing": """电脑，手机，汽车，火车，飞机，火箭，相机，机器人，冰箱，吉他，钢琴，电视，电池，
        彩虹，火山，海洋，沙漠，岛，地震，行星，黑洞，银河，原子，细胞，病毒，大脑，心脏，钻石，
        玻璃，钱，银行，法律，战争，和平，政府，大学，博物馆，医院，报纸，电影，小说，诗，歌，
        游戏，网站，密码，神经网络，互联网，伞，鞋，钥匙，球，灯，帽子，笔，书，月亮，太阳，雨，
        雪，风""",
    "animal": """大象，狮子，老虎，长颈鹿，鲸鱼，鲨鱼，海豚，企鹅，老鹰，蛇，青蛙，蜘蛛，蜜蜂，
        狼，狐狸，熊，猴子，骆驼，羊，猪，牛，鸡，老鼠，乌龟，熊猫，猫，狗，马，兔子，鸭子，鸟，
        鱼""",
    "food": """米饭，面条，饺子，包子，豆腐，火锅，烤鸭，披萨，面包，蛋糕，巧克力，冰淇淋，牛奶，
        咖啡，茶，酒，苹果，香蕉，西瓜，葡萄，土豆，番茄，鸡蛋，鱼，肉，萝卜，糖，汤""",
    "subject": """物理，化学，生物，历史，地理，哲学，心理学，经济，政治，法律，医学，艺术，音乐，
        文学，宗教，体育，足球，围棋，做饭，摄影，天文，语法，统计，代数，几何，微积分，概率，
        逻辑，机器学习，编程，进化，气候变化，重力，量子力学，相对论，民主，幸福，爱情，时间，
        空间，意识，梦，友谊，教育，语言，人工智能""",
    "tongue": """英语，法语，德语，日语，韩语，西班牙语，俄语，意大利语，阿拉伯语，拉丁语，
        葡萄牙语""",
    "feeling": """高兴，难过，生气，累，无聊，饿，渴，孤单，害怕，兴奋，紧张，困，担心，开心，
        很好""",
    "job": """医生，老师，律师，护士，飞行员，农民，厨师，画家，歌手，演员，作家，科学家，工程师，
        总统，国王""",
    "activity": """游泳，跳舞，唱歌，做饭，开车，看书，写字，睡觉，旅行，学习，写代码，画画，
        跑步，下棋，弹钢琴，骑车，种花，学英语，存钱，减肥，修车，训练模型""",
    "year": """1492，1776，1840，1900，1911，1945，1949，1978，1989，2000，2008，2020，2024""",
    "month": """一月，二月，三月，四月，五月，六月，七月，八月，九月，十月，十一月，十二月""",
    "unit": """公里，公斤，米，厘米，小时，分钟，秒，元，美元，度""",
    "colour": """红，蓝，绿，黑，白，黄，紫，粉，灰""",
    "place": """花园，河边，森林，山上，市场，学校，桥边，谷仓，海边，车站，机场，图书馆，厨房，
        公园，动物园""",
    "code": """print("你好")，import os，for i in range(10):，x += 1，while True:，y = x ** 2，
        git pull，SELECT 1，return 0，import torch，a = [1]，print(x)""",
    "foreign": """Bonjour，Hola，こんにちは，안녕하세요，Привет，Merci，Danke""",
    "noise": """啊啊啊，哈哈哈，呵呵，嗯嗯，哦哦，啦啦啦，测试测试，一二三，？？？，！！！，
        。。。，阿，哎呀，嘿嘿，喵喵，汪汪，的的的，是是是，好吧，不不不，天啊，什么什么，开始，
        停，退出，帮助，菜单""",
}

WORD_LISTS: Mapping[Language, Mapping[str, tuple[str, ...]]] = {
    "en": {kind: _entries(text) for kind, text in _ENGLISH.items()},
    "zh": {kind: _entries(text) for kind, text in _CHINESE.items()},
}
"""The words for each kind of slot in a template."""
